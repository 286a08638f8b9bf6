"""The backend for browsers: a bundle is a folder of static files, with a page and a module that run it."""
