"""A study in its storage. The only package that opens Optuna storage.

Reading order: open, driver, record, read, summary, sampling, sharing, connection.
"""
