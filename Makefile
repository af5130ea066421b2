# make demo: install and run the quick-start scenario.  make test: lint, types and tests.
# make figures: those of docs/figures that need nothing else; make figures-of-data DATA=FOLDER: the others, of texts that do not ship.
# make test-browser: reports in headless Chromium (Debian: apt-get install chromium chromium-driver).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint types tests test-browser slow figures figures-of-data wheel clean

demo: $(VENV)/.installed
	$(BIN)/channel-sim run quickstart --workers 2 --out results/quickstart

test: lint types tests

lint: $(VENV)/.installed-dev
	$(BIN)/flake8 channel_sim sources decoders scenarios reports tests benchmarks
	$(BIN)/isort --check-only --quiet channel_sim sources decoders scenarios reports tests benchmarks

types: $(VENV)/.installed-dev
	$(BIN)/mypy

tests: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-browser: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -rs tests/test_browser.py

slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2

$(VENV)/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

figures: $(VENV)/.installed
	set -e; for run in quickstart:token_error_rate text_over_rayleigh:token_error_rate markov_optimum:recovered_fraction \
	  markov_breakeven:token_error_rate exchanges:token_error_rate soft_bits:byte_error_rate placebos:token_error_rate \
	  measured_traces:residual_packet_loss_rate parity_or_context:token_error_rate parity_or_arq:token_error_rate \
	  parity_or_rate:token_error_rate surprisal_uep:token_error_rate damaged_packets:token_error_rate \
	  image_codecs:psnr_db-over-bits_per_pixel image_contexts:psnr_db-over-bits_per_pixel \
	  image_separation_awgn:psnr_db image_separation_rayleigh:psnr_db image_separation_fades:psnr_db \
	  lossless_table:compression_rate lossless_loss:token_error_rate online_loss:token_error_rate online_lengths:bits_per_byte \
	  context_length:compression_rate model_scale:compression_rate \
  image_tokens_loss:psnr_db image_redundancy:psnr_db image_soft_tokens:psnr_db sound_loss:si_sdr_db gaussian_rate_distortion:sdr_db \
  diffc_images:psnr_of_mean_mse_db-over-bits_per_pixel diffc_progressive_link:psnr_db diffc_progressive_fades:psnr_db; do \
	  $(BIN)/channel-sim run $${run%%:*}; cp results/$${run%%:*}/figures/$${run##*:}.svg docs/figures/$${run%%:*}.svg; done
	$(BIN)/python -m benchmarks.breakeven
	$(BIN)/python -m benchmarks.components docs/figures/diffc_components.svg

figures-of-data: $(VENV)/.installed
	$(if $(DATA),,$(error DATA=FOLDER must hold text/train.txt and text/valid.txt, and what benchmarks/domains.py names))
	$(BIN)/python -m benchmarks.soft_bits $(DATA)/text/valid.txt 60 docs/figures/soft_bits_valid.svg
	$(BIN)/python -m benchmarks.calibration $(DATA)/text/valid.txt --train $(DATA)/text/train.txt --figure docs/figures/calibration.svg
	$(BIN)/python -m benchmarks.efficiency_resilience $(DATA)/text/valid.txt --train $(DATA)/text/train.txt \
	  --messages 20 --figure docs/figures/efficiency_resilience.svg
	$(BIN)/python -m benchmarks.domains $(DATA) --figure docs/figures/domains.svg
	$(BIN)/python -m benchmarks.scale $(DATA)/text/train.txt $(DATA)/text/valid.txt --figure docs/figures/scale.svg

wheel: $(VENV)/.installed-dev
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) build dist *.egg-info results .mypy_cache .pytest_cache
