"""Results for other systems, made only when asked for: OMOP tables, and DICOM objects for a PACS."""
