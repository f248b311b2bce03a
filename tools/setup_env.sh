#!/usr/bin/env bash
# Make the environment of this checkout: .venv with the pinned versions of requirements/default.txt, or,
# with MMDET_CBN_STACK=classic, .venv-classic with those of requirements/classic.txt.
#
# When the environment is complete, nothing is done. Environment: PYTHON (the interpreter to build on),
# and pip's own, such as PIP_FIND_LINKS (folders with wheels, e.g. one of mmcv, which is compiled else).
#
# example:
#   PYTHON=python3.11 bash tools/setup_env.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

PINS=$ROOT/requirements/$STACK.txt
STAMP=$VENV/mmdet-cbn.stamp
MMCV=$(grep -E '^(onedl-)?mmcv==' "$PINS")
# The libraries of requirements/sisters.txt come with the pins: each line has its own distributions of them.
REQUIREMENTS=(
    requirements.txt requirements/mmdet.txt requirements/experiments.txt requirements/tests.txt requirements/docs.txt
)

# The checkout's place counts: an editable installation points to it.
fingerprint() {
    (echo "$ROOT" && cat "$PINS" "${REQUIREMENTS[@]}" pyproject.toml setup.py tools/setup_env.sh) | sha256sum
}

installed() { # installed NAME==VERSION: whether the environment holds it
    local name=${1%%==*}
    compgen -G "$VENV/lib/python*/site-packages/${name//-/_}-${1##*==}.dist-info/RECORD" >/dev/null
}

find_interpreter() {
    local versions=' 3.10 3.11 3.12 ' candidates=(python3.11 python3.12 python3.10 python3 python)
    if [[ $STACK == classic ]]; then
        versions=' 3.10 3.11 '
    fi
    if [[ -x $VENV/bin/python ]]; then
        candidates=("$VENV/bin/python")
    elif [[ -n ${PYTHON:-} ]]; then
        candidates=("$PYTHON")
    fi
    local candidate version found=''
    for candidate in "${candidates[@]}"; do
        version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) ||
            continue
        if [[ $versions != *" $version "* ]]; then
            found+=", $candidate is $version"
        elif ! "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            found+=", $candidate has no venv module (on Debian and Ubuntu: apt install python$version-venv)"
        else
            INTERPRETER=$candidate
            return
        fi
    done
    found=${found:-, looked for ${candidates[*]}}
    fail "the $STACK line needs Python${versions// /, }with venv: ${found#, }; set PYTHON to one"
}

have_wheel() { # whether a folder of PIP_FIND_LINKS holds mmcv, built for this Python
    local name=${MMCV%%==*} tag folder
    tag=$("$INTERPRETER" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
    for folder in ${PIP_FIND_LINKS:-}; do
        compgen -G "${folder#file://}/${name//-/_}-${MMCV##*==}-$tag-*.whl" >/dev/null && return
    done
    return 1
}

check_compiler() {
    local compiler=${CXX:-c++} header
    echo '#include <vector>' | $compiler -x c++ -fsyntax-only - 2>/dev/null ||
        fail "no working C++ compiler ($compiler), which $MMCV is compiled with;" \
            'install one (on Debian and Ubuntu: apt install g++), or set CXX'
    header=$("$INTERPRETER" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
    [[ -f $header ]] ||
        fail "no $header, which $MMCV is compiled with;" \
            'install the headers of Python (on Debian and Ubuntu: apt install python3-dev)'
    if [[ -z ${CUDA_VISIBLE_DEVICES-GPU} || ${CUDA_VISIBLE_DEVICES-} == -1 ]]; then
        return
    fi
    if nvidia-smi -L 2>/dev/null | grep -q GPU && ! [[ -x ${CUDA_HOME:-/usr/local/cuda}/bin/nvcc ]] &&
        ! command -v nvcc >/dev/null; then
        fail "a GPU, but no nvcc to compile the CUDA operators of $MMCV; install the CUDA toolkit," \
            'or set CUDA_VISIBLE_DEVICES=-1 to do without the GPU'
    fi
}

# The folders that grow, and by how many GB (PyTorch comes with the CUDA libraries). Measured: 5.7 in the
# environment, 2.7 for the downloads of the larger line, of which pip may keep a copy in its cache.
check_disk() {
    local folder size mount free place cache=${PIP_CACHE_DIR:-${XDG_CACHE_HOME:-${HOME:-}/.cache}/pip}
    local -A need=() have=()
    for place in "6 $ROOT" "3 ${TMPDIR:-/tmp}" "3 $cache"; do
        size=${place%% *} folder=${place#* }
        until [[ -d $folder ]]; do
            folder=$(dirname "$folder")
        done
        read -r free mount < <(df -Pk "$folder" | awk 'NR == 2 {print int($4 / 1024 / 1024), $6}')
        need[$mount]=$((${need[$mount]:-0} + size))
        have[$mount]=$free
    done
    for mount in "${!need[@]}"; do
        ((have[$mount] >= need[$mount])) ||
            fail "${have[$mount]} GB are free on $mount, the installation needs ${need[$mount]} GB;" \
                'make room, or set TMPDIR and PIP_CACHE_DIR to folders on another disk'
    done
}

cd "$ROOT"
if [[ -x $VENV/bin/python && -f $STAMP && $(<"$STAMP") == "$(fingerprint)" ]]; then
    exit 0
fi

find_interpreter
if ! installed "$MMCV" && ! have_wheel; then
    check_compiler
    COMPILE=yes
fi
if ! installed "$(grep '^torch==' "$PINS" | cut -d' ' -f1)"; then
    check_disk
fi

trap 'echo "setup_env.sh: stopped before the end; run it again to go on from here" >&2' ERR
rm -f "$STAMP"
if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
    echo "== Making $VENV with $INTERPRETER"
    "$INTERPRETER" -m venv --clear "$VENV"
fi

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_USER=0
pip_install() {
    "$VENV/bin/python" -m pip install --constraint "$PINS" "$@"
}

echo '== PyTorch and the build tools (about 3 GB unless pip has them already)'
pip_install --requirement <(grep -vE '^(onedl-)?mm' "$PINS")
echo '== mmengine and mmcv'
pip_install "$(grep -E '^(onedl-)?mmengine==' "$PINS")"
if [[ -n ${COMPILE:-} ]]; then
    echo "== Compiling the operators of $MMCV: about 8 to 20 minutes on 2 cores (here: $(nproc))"
fi
# Only mmcv: its build needs the torch of this environment, that of other packages a newer setuptools.
MMCV_WITH_OPS=1 pip_install --no-build-isolation --no-deps "$MMCV"
echo '== mmdet and its sisters, test tools and mmdet_cbn'
pip_install --requirement "$PINS" "${REQUIREMENTS[@]/#/--requirement=}"
# mmcv asks for opencv-python, which needs libGL; the headless build of the same files does not.
pip_install --force-reinstall --no-deps opencv-python-headless
pip_install --no-build-isolation --no-deps --editable .

"$VENV/bin/python" -W ignore -c 'import torchvision, mmcv.ops, mmdet.apis, mmpretrain, mmseg.apis, mmdet_cbn' ||
    fail "$VENV is complete and yet does not work; delete it and run this again"
fingerprint >"$STAMP"
echo "== $VENV is ready"
