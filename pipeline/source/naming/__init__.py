"""What SOURCE arguments name: files and folders, however they are written."""
