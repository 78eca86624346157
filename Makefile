# make demo | test | lint | bench    (STACK=openmmlab, the default, or STACK=onedl)
STACK  ?= openmmlab
PYTHON ?= python3
TORCH  ?= torch==2.13.0
VENV   := $(if $(filter openmmlab,$(STACK)),.venv,.venv-$(STACK))
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: help
help:
	@echo 'make env     create $(VENV) with the $(STACK) stack (the first time compiles mmcv: about 10 minutes)'
	@echo 'make demo    train Faster R-CNN with DySample on Shapes, evaluate it and draw its detections'
	@echo 'make test    the whole test suite'
	@echo 'make lint    ruff and mypy'
	@echo 'make bench   DySample against the textbook formulation: time and memory'
	@echo 'make clean   remove build products (environments, data and work_dirs stay)'

.PHONY: env
env: $(READY)

# torch comes first: mmcv is compiled against it. MAX_JOBS bounds the memory that the compiler takes.
$(READY): setup.py requirements/build.txt
	@case '$(STACK)' in openmmlab|onedl) ;; *) echo "STACK must be openmmlab or onedl, got '$(STACK)'"; exit 2;; esac
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet '$(TORCH)' --requirement requirements/build.txt
	MMCV_WITH_OPS=1 MAX_JOBS=$${MAX_JOBS:-2} $(BIN)/python -m pip install --no-build-isolation --editable '.[$(STACK),dev]'
	touch $(READY)
