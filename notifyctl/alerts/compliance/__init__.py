"""What of a client's expires: kept, reminded of, and told to the operators when nobody acts."""
