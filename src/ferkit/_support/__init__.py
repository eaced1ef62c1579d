"""What every room may use and nothing of the domain: files, processes, the Keras back end."""
