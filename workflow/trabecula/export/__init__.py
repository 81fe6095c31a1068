"""Results for other systems, made only when asked for: tables as in OMOP, objects for a PACS."""
