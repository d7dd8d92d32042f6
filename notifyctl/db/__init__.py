"""Engine, transactions, statements of many rows, migrations, wake-up."""
