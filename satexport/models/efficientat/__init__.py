"""EfficientAT: MobileNets ("mn") that tag audio at 32 kHz."""
