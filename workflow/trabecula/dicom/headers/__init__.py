"""Read what index and convert need from DICOM headers.

`fields` is the allow-list of attributes, `record` what is remembered of a file. `read` reads the files of an archive:
`parse` and `quick` read plain files quickly, `by_pydicom` reads what those two doubt and checks them. Missing
UIDs are replaced by `trabecula.dicom.identity`.
"""
