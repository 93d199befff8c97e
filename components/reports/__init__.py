"""What all HTML reports share: the base template, the style sheet, tables and charts."""
