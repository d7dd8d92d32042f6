"""From a template file to the words that go out."""
