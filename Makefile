# The text after `##` is what bare `make` prints. PYTHON=... names the Python that .venv is made with; without it the first on PATH that
# will do is taken.
PYTHON ?= $(or $(shell command -v python3 2>/dev/null),$(shell command -v python3.12 2>/dev/null),$(shell command -v python3.11 2>/dev/null))
BOOTSTRAP = @test -n "$(PYTHON)" || { echo "There is no Python here: install Python 3.11 or 3.12." >&2; exit 1; }; \
	exec "$(PYTHON)" guardreview/bootstrap.py

.DEFAULT_GOAL = help
.PHONY: help run test lint types bench train tune evaluate compare tools

help: ## Print this help
	@sed -n 's/^\([a-z]*\):.* ## */  make \1	/p' Makefile | expand -t 20

run: ## Install what is missing and start everything (PORT=8001 for another port)
	$(BOOTSTRAP) python manage.py run $(if $(PORT),--port "$(PORT)")

test: ## Run every check, on real parts (ARGS="tests/api -x" for pytest)
	$(BOOTSTRAP) --test python -m pytest $(ARGS)

lint: tools ## Check style, the arrows between the apps, settings and migrations
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports --no-logo
	GUARDREVIEW_HTTPS=true .venv/bin/python manage.py check --deploy --fail-level WARNING
	.venv/bin/python manage.py makemigrations --check --dry-run

types: tools ## Check types
	.venv/bin/mypy

bench: ## Measure speed and memory beside their peers; writes var/bench.json
	$(BOOTSTRAP) --tools python -m tests.bench $(ARGS)

train: ## Fine-tune the encoder and train the head, about an hour (ARGS=--labels: the head alone, with pharmacists' labels)
	$(BOOTSTRAP) python manage.py train $(or $(ARGS),--encoder)

tune: ## Choose thresholds with a guarantee and draw the curves (ARGS=--create-policy stores them)
	$(BOOTSTRAP) python manage.py tune $(ARGS)

compare: ## Measure each layer's latency, cost, precision and recall on the test split
	$(BOOTSTRAP) python manage.py compare $(ARGS)

evaluate: ## Evaluate on labelled rows (FILE=rows.jsonl)
	$(BOOTSTRAP) python manage.py evaluate "$(FILE)" $(ARGS)

tools:
	$(BOOTSTRAP) --tools
