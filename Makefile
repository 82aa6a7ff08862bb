# make demo | test | lint | bench | docs      options: QT=pyqt6  TORCH_INDEX=URL  PYTHON=python3.12  JOBS=1

PYTHON ?= python3
QT ?= pyqt5
JOBS ?= 2
EXTRA_pyqt5 = app
EXTRA_pyqt6 = app-qt6
TORCH = $(shell sed -n 's/^torch==/torch==/p' constraints.txt)
BIN = .venv/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
STAMP = .venv/installed-$(QT)

export QT_API = $(QT)

.PHONY: demo test lint bench docs clean

demo: $(STAMP)
	@if [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ]; then \
	    $(BIN)/napari-wsimil demo; \
	else \
	    echo "No display: the demo opens under a virtual one."; \
	    QT_QPA_PLATFORM=xcb xvfb-run -a -s "-screen 0 1600x1000x24 +extension GLX" \
	        $(BIN)/napari-wsimil demo --screenshot out/demo.png && \
	    echo "Its window is in out/demo.png"; \
	fi

test: $(STAMP)-test
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile $(TESTS)

lint: $(STAMP)-test $(STAMP)-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/typos
	$(BIN)/python scripts/check_words.py

bench: $(STAMP)-test
	$(BIN)/python benchmarks/viewing.py
	$(BIN)/python benchmarks/window.py
	$(BIN)/python benchmarks/whatif.py
	$(BIN)/python benchmarks/mosaic.py
	$(BIN)/python benchmarks/classic.py
	$(BIN)/python benchmarks/attention.py
	$(BIN)/python benchmarks/methods.py

docs: $(STAMP)-docs
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(BIN)/mkdocs build
	@echo "Open out/site/index.html"

clean:
	rm -rf .venv out

.venv:
	$(PYTHON) -m venv .venv

$(STAMP): pyproject.toml constraints.txt scripts/system-packages.sh | .venv
	sh scripts/system-packages.sh
	$(if $(TORCH_INDEX),$(PIP) $(TORCH) --index-url $(TORCH_INDEX))
	$(PIP) --editable '.[$(EXTRA_$(QT))]'
	touch $@

$(STAMP)-test: $(STAMP)
	$(PIP) --editable '.[$(EXTRA_$(QT)),test]'
	touch $@

$(STAMP)-docs: $(STAMP)
	$(PIP) --editable '.[$(EXTRA_$(QT)),docs]'
	touch $@

$(STAMP)-lint: $(STAMP)
	$(PIP) --editable '.[$(EXTRA_$(QT)),test,lint]'
	touch $@
