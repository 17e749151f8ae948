"""What stands around the package: emulators. Never imported by a request."""
