# Everything starts from a clone, Python 3.11 or 3.12, and make; what is installed lies in .venv.

# Snakemake, Dask and Slurm jobs find the environment's programs by name.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
CORES ?= 2
# Real scans that the segmentation network learns from (see models/segmenter/docs/README.md).
DATA ?= ../shared/data

# Readers, and how many inputs each is given.
FUZZ ?= index:300000 convert:30000 labels:60000 config:150000 mask:60000 model:400000

.PHONY: demo test check lint environment test-environment check-environment audit damage fuzz generated reproduce demo-model segmenter clean

demo: environment  ## synthetic archive, whole workflow, report
	@echo "Running the workflow on the synthetic archive: 4 to 8 minutes."
	snakemake --cores $(CORES)
	@echo "The report: $(CURDIR)/results/report/index.html"

test: lint  ## all that CI runs; the last line is the share of the package that the tests themselves run through
	pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=
	coverage report --format=total | sed 's/.*/Coverage: & % of the lines, without those that only the jobs of a run go through./'

check: lint  ## what one runs while writing: lint, types and the unit tests that are not slow
	pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -m "not slow" tests/unit tests/test_layout.py tests/test_envs.py

lint: test-environment
	ruff check
	ruff format --check
	snakefmt --check Snakefile workflow
	pyright --warnings
	snakemake --lint

environment:
	@envs/install.sh envs/requirements.txt

test-environment: environment
	@envs/install.sh envs/requirements-dev.txt

check-environment:  ## what the lock lists, alone in a fresh environment, imports every module; minutes and 6 GB
	python3 -m venv --clear scratch/environment
	scratch/environment/bin/python -m pip install --quiet --disable-pip-version-check --requirement envs/requirements.txt
	scratch/environment/bin/python -m pip check
	PYTHONPATH=workflow scratch/environment/bin/python envs/imports.py

audit:  ## known weaknesses of what the lock pins; asks pypi.org for each
	python3 -m venv --clear scratch/audit
	scratch/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	scratch/audit/bin/pip-audit --strict --no-deps --disable-pip --requirement envs/requirements.txt

damage: test-environment  ## 1,000 studies, one in twenty damaged, through the whole workflow; an hour or more, and some GB in TMPDIR
	TRABECULA_DAMAGE_STUDIES=1000 pytest --durations 0 tests/workflow/test_damage.py

fuzz: test-environment  ## a million damaged inputs, led by coverage; Linux on x86-64, hours
	.venv/bin/python -m pip install --quiet --disable-pip-version-check atheris==3.0.0
	for target in $(FUZZ); do python tests/fuzz/campaign.py $${target%:*} --cases $${target#*:} || exit 1; done

generated: test-environment  ## files that follow from others, held by tests
	PYTHONPATH=workflow python config/generate.py
	python envs/generate.py

reproduce: environment  ## the synthetic study: the whole protocol, its report and the shipped model; under four hours
	snakemake --cores $(CORES) --configfile config/reproduce.yaml -- reproduce
	rm -rf models/demo
	cp -r scratch/reproduce/results/models/demo models/demo
	rm -rf docs/reproduce
	mkdir docs/reproduce
	cd scratch/reproduce/results && cp --parents report/index.html */report/index.html */report/checklists.html $(CURDIR)/docs/reproduce/

demo-model: environment  ## the shipped model alone
	snakemake --cores $(CORES) --configfile config/reproduce.yaml -- train_demo
	rm -rf models/demo
	cp -r scratch/reproduce/results/models/demo models/demo

segmenter: environment  ## train the shipped segmentation network anew
	snakemake --directory scratch/segmenter --cores $(CORES) train_segmenter --config "train_segmenter={real: $(abspath $(DATA))}"
	rm -rf models/segmenter
	cp -r scratch/segmenter/results/models/segmenter models/segmenter
	cp LICENSE models/segmenter/

clean:  ## results, logs and the synthetic archive, not the environment
	rm -rf results/* logs phantom scratch .snakemake
