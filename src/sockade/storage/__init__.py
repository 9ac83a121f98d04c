"""Users, sessions and links in a SQL database; migrations."""
