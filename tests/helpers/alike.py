"""Compare the tables of two sites that came to the same archive on different ways."""

import pandas as pd
from small_site import Site, tables

STUDIES = "results/tables/studies/cohort=hospital/studies.parquet"


def alike_tables(site: Site, undisturbed: Site) -> None:
    """Check that the public tables are the same but for the studies' shards.

    In the last digits a network's values depend on how many vertebrae it is given at once.
    """
    expected, actual = tables(undisturbed.folder), tables(site.folder)
    assert expected.keys() == actual.keys()
    for name, table in expected.items():
        left, right = (rows.drop_columns("shard") if name == STUDIES else rows for rows in (actual[name], table))
        pd.testing.assert_frame_equal(left.to_pandas(), right.to_pandas(), rtol=1e-6, obj=name)
