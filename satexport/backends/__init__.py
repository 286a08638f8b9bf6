"""The runtimes: a folder for each, all meeting the protocol of `satexport.backends.backend`."""
