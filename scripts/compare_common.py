"""compare_common: what the comparisons share: commands with one clear line when they fail, models, our build, llama.cpp's build."""
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path.home() / ".cache/fourway"
LLAMA = CACHE / "llama.cpp"
LLAMA_PACKAGE, LLAMA_VERSION = "llama-cpp-python", "0.3.36"


def say(text):
    print(f"{Path(sys.argv[0]).name}: {text}", file=sys.stderr, flush=True)


def stop(text):
    say(text)
    sys.exit(1)


def command(words, **options):
    """Standard output of a command; the end of what it said, and exit 1, when it fails."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    done = subprocess.run([str(w) for w in words], **options)
    if done.returncode:
        said = ((done.stderr or "").strip() or done.stdout.strip()).splitlines()[-15:]
        stop("failed: " + " ".join(map(str, words)) + "\n    " + "\n    ".join(said))
    return done.stdout


def find_model(name):
    if Path(name).is_file():
        return Path(name).resolve()
    return Path(command([ROOT / "scripts/get-model", name]).split()[-1])


def write_synthetic(out, shape, quant, *options):
    """A model with random weights at `out`, unless it is there. Its writer needs gguf and numpy: this Python's, or installed once."""
    if out.exists():
        return
    python = sys.executable
    if any(importlib.util.find_spec(name) is None for name in ("gguf", "numpy")):
        python = CACHE / "synthetic/venv/bin/python"
        if not python.exists():
            say("installing gguf and numpy, for the model's writer, into ~/.cache/fourway/synthetic/venv")
            command([sys.executable, "-m", "venv", python.parent.parent])
            command([python, "-m", "pip", "install", "--quiet", "gguf==0.19.0", "numpy"])
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    try:
        command([python, ROOT / "scripts/synthetic_model.py", shape, quant, find_model("smollm2"), part, *options])
        part.rename(out)
    finally:
        part.unlink(missing_ok=True)


def build_fourway():
    command([ROOT / "scripts/setup"])
    command([ROOT / "scripts/build"])


def pip_download(package, folder, *options):
    """Fetch a package's file into `folder`, without what it needs and without installing it; False if pip says no (on stderr)."""
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, *options, package]
    return subprocess.run(list(map(str, words)), stdout=sys.stderr).returncode == 0


def fetch_llama_sources(folder):
    """Unpack llama.cpp's sources into `folder`. pip prepares metadata to learn the package's name, which needs its build tools:
    it fetches those into an environment of their own; nothing is compiled and nothing installed."""
    with tempfile.TemporaryDirectory(dir=LLAMA) as work:
        say(f"downloading {LLAMA_PACKAGE} {LLAMA_VERSION} (75 MB)")
        source = ("--no-binary", LLAMA_PACKAGE)
        if not pip_download(f"{LLAMA_PACKAGE}=={LLAMA_VERSION}", work, *source):
            say(f"version {LLAMA_VERSION} is not to be had: trying the newest")
            if not pip_download(LLAMA_PACKAGE, work, *source):
                stop("pip could not download it (above)")
        package = next(Path(work).glob("*.tar.gz"), None)
        if not package:
            stop("the download holds no source package")
        unpacked = Path(work) / "sources"
        unpacked.mkdir()
        command(["tar", "-xzf", package, "-C", unpacked, "--strip-components=3", "--wildcards", "*/vendor/llama.cpp/*"])
        (unpacked / "FROM").write_text(package.name.removesuffix(".tar.gz") + "\n")
        unpacked.rename(folder)


def llama_programs(names):
    """The folder that holds these programs of llama.cpp, and where they come from: LLAMA_CPP_BIN, or built once, for this machine
    (GGML_NATIVE), in ~/.cache/fourway/llama.cpp from the source package of llama-cpp-python."""
    given = os.environ.get("LLAMA_CPP_BIN")
    if given:
        for name in names:
            if not os.access(Path(given) / name, os.X_OK):
                stop(f"LLAMA_CPP_BIN={given} holds no {name}")
        return Path(given), given
    sources, build, compiler = LLAMA / "sources", LLAMA / "build", []
    if "amx_tile" in Path("/proc/cpuinfo").read_text():
        # gcc 12 drops most of what LDTILECFG reads: llama.cpp's AMX kernels then end in an illegal instruction.
        clang = next((name for name in ("clang", "clang-16", "clang-15", "clang-14") if shutil.which(name)), None)
        if not clang and not (LLAMA / "build-clang/bin").is_dir():
            stop("llama.cpp's AMX kernels need clang: apt-get install clang-14 (./scripts/setup --tests does)")
        build = LLAMA / "build-clang"
        compiler = [f"-DCMAKE_C_COMPILER={clang}", f"-DCMAKE_CXX_COMPILER={clang.replace('clang', 'clang++')}"] if clang else []
    LLAMA.mkdir(parents=True, exist_ok=True)
    if not sources.is_dir():
        fetch_llama_sources(sources)
    if not all((build / "bin" / name).exists() for name in names):
        say("building llama.cpp, once (10 minutes on 2 cores)")
        command(["cmake", "-S", sources, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON",
                 "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_UI=OFF",
                 "-DLLAMA_USE_PREBUILT_UI=OFF", "-DLLAMA_BUILD_APP=OFF", "-DLLAMA_OPENSSL=OFF", *compiler])
        command(["cmake", "--build", build, "--target", *names])
    return build / "bin", (sources / "FROM").read_text().strip()


def run_fourway(model, threads, prompt, generate, batches):
    """One round of `fourway bench`: its report, and {("pp" or "tg", batch): tok/s}."""
    words = [ROOT / "build/fourway", "bench", model, "--prompt", prompt, "--gen", generate, "--reps", 1,
             "--batch", ",".join(map(str, batches)), "--json"]
    report = json.loads(command(words + (["--threads", threads] if threads else [])))
    return report, {("tg" if row["test"].startswith("tg") else "pp", row["batch"]): row["tok_per_s"]["median"]
                    for row in report["results"]}


def print_rates(peer, tests, ours, theirs):
    """A table over the rounds, tests as {key: name}: medians, smallest and largest, and the ratio of the medians. Returns its rows for a
    JSON file, with every round's number."""
    rows = []
    print(f"| test | fourway | {peer} | ratio |\n| --- | ---: | ---: | ---: |")
    for key, name in tests.items():
        sides = [[rates[key] for rates in side] for side in (ours, theirs)]
        mine, other = map(statistics.median, sides)
        rows.append({"test": name, "fourway": mine, "peer": other, "rounds": dict(zip(("fourway", "peer"), sides))})
        shown = (f"{statistics.median(side):.1f} ({min(side):.1f} .. {max(side):.1f})" for side in sides)
        print(f"| {name} | {' | '.join(shown)} | {mine / other:.2f} |")
    return rows
