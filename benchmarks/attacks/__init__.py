"""What one stranger or one key can do to a service, done to one, and what another key notices."""
