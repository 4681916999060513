"""Where documents come from: files, a hub, installed packages."""
