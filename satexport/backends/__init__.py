"""The runtimes, a folder for each; all meet the protocol in `satexport.backends.backend`."""
