"""Commands about single messages and what they say."""
