# Everything starts from a clone, Python 3.11 or 3.12, and make; what is installed lies in .venv.

# Snakemake, Dask and Slurm jobs find the environment's programs by name.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
CORES ?= 2
# Real scans on which the segmentation network is trained (see models/segmenter/docs/README.md).
DATA ?= ../shared/data

# Readers of foreign input, and the number of damaged inputs that each one gets.
FUZZ ?= index:300000 convert:30000 labels:60000 config:150000 mask:60000 model:400000

.PHONY: demo test check lint style types quick environment test-environment check-environment audit damage fuzz generated reproduce demo-model segmenter clean

demo: environment  ## run the whole workflow on a synthetic archive, to its report
	@echo "Running the workflow on the synthetic archive: 4 to 8 minutes."
	snakemake --cores $(CORES)
	@echo "The report: $(CURDIR)/results/report/index.html"

test: lint  ## run all that CI runs; the last line is the coverage of the package by the tests themselves
	pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=
	coverage report --format=total | sed 's/.*/Coverage: & % of the lines, without those that only the jobs of a run go through./'

check: test-environment  ## what one runs while writing: lint, types and the unit tests that are not slow, side by side
	@$(MAKE) --no-print-directory --jobs 3 --output-sync=target style types quick

lint: style types

style: test-environment
	ruff check
	ruff format --check
	snakefmt --check Snakefile workflow
	snakemake --lint

types: test-environment
	pyright --warnings

quick: test-environment
	pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -m "not slow" tests/unit tests/test_layout.py tests/test_envs.py

environment:
	@envs/install.sh envs/requirements.txt

test-environment: environment
	@envs/install.sh envs/requirements-dev.txt

check-environment:  ## install the locked packages alone in a fresh environment and import every module; takes minutes and 6 GB
	python3 -m venv --clear scratch/environment
	scratch/environment/bin/python -m pip install --quiet --disable-pip-version-check --requirement envs/requirements.txt
	scratch/environment/bin/python -m pip check
	PYTHONPATH=workflow scratch/environment/bin/python envs/imports.py

audit:  ## look up known weaknesses of the pinned packages at pypi.org
	python3 -m venv --clear scratch/audit
	scratch/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	scratch/audit/bin/pip-audit --strict --no-deps --disable-pip --requirement envs/requirements.txt

damage: test-environment  ## run the whole workflow on 1,000 studies, one in twenty damaged; takes an hour or more, and some GB in TMPDIR
	TRABECULA_DAMAGE_STUDIES=1000 pytest --durations 0 tests/workflow/test_damage.py

fuzz: test-environment  ## give the readers a million damaged inputs, guided by coverage; Linux on x86-64, takes hours
	.venv/bin/python -m pip install --quiet --disable-pip-version-check atheris==3.0.0
	for target in $(FUZZ); do python tests/fuzz/campaign.py $${target%:*} --cases $${target#*:} || exit 1; done

generated: test-environment  ## write the files that are generated from others; tests compare them
	PYTHONPATH=workflow python config/generate.py
	python envs/generate.py

reproduce: environment  ## run the whole protocol of the synthetic study; renews its report and the shipped model; under four hours
	snakemake --cores $(CORES) --configfile config/reproduce.yaml -- reproduce
	rm -rf models/demo
	cp -r scratch/reproduce/results/models/demo models/demo
	rm -rf docs/reproduce
	mkdir docs/reproduce
	cd scratch/reproduce/results && cp --parents report/index.html */report/index.html */report/checklists.html $(CURDIR)/docs/reproduce/

demo-model: environment  ## train the shipped model alone
	snakemake --cores $(CORES) --configfile config/reproduce.yaml -- train_demo
	rm -rf models/demo
	cp -r scratch/reproduce/results/models/demo models/demo

segmenter: environment  ## train the shipped segmentation network anew
	snakemake --directory scratch/segmenter --cores $(CORES) train_segmenter --config "train_segmenter={real: $(abspath $(DATA))}"
	rm -rf models/segmenter
	cp -r scratch/segmenter/results/models/segmenter models/segmenter
	cp LICENSE models/segmenter/

clean:  ## remove results, logs and the synthetic archive, but not the environment
	rm -rf results/* logs phantom scratch .snakemake
