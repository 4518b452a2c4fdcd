"""From files to a table of counts, with points and maps written beside it."""
