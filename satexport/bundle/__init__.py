"""The folder that goes to the device; imports numpy alone."""
