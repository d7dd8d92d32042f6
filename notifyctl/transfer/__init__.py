"""The whole database in another place: a backup, its restore, and a copy to another database."""
