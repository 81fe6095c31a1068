"""Judge the network and the HU baseline against QCT, and count what became of every study."""

from trabecula.log import to_log

to_log(snakemake.log[0])

from trabecula import evaluate, tables

patients = tables.read_many(snakemake.input.patients, tables.PATIENTS)
series = tables.read_many(snakemake.input.series, tables.SERIES)
studies = tables.read_many(snakemake.input.studies, tables.STUDIES)

found = evaluate.statistics(patients, reduced_below_mg_cm3=snakemake.params.cut, **snakemake.params.options)
found["flow"] = evaluate.flow(series, studies, patients)

for name, schema in tables.STATISTICS.items():
    tables.write(found[name], schema, snakemake.output[name])
