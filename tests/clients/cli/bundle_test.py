#!/usr/bin/env python3
"""What deploy/bundle packs runs from another folder. usage: bundle_test.py PRESET"""
import pathlib
import subprocess
import sys
import tarfile
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]


def output_of(command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


def main(preset):
    with tempfile.TemporaryDirectory() as folder:
        archive = pathlib.Path(folder) / "bundle.tar.gz"
        output_of([ROOT / "deploy" / "bundle", "--preset", preset, "--no-build", "--output", archive])
        assert archive.stat().st_size < 60e6, f"the archive has {archive.stat().st_size} bytes"
        with tarfile.open(archive) as tar:
            tar.extractall(folder)
        (root,) = [path for path in pathlib.Path(folder).iterdir() if path.is_dir()]
        for program in ("berth", "berth-worker", "berth-gateway", "berth-bench", "berth-model"):
            assert "--" in output_of([root / "bin" / program, "--help"], cwd="/"), program
        assert output_of([root / "bin" / "berth", "--version"], cwd="/").startswith("berth ")
        # Nothing but the C library and CUDA comes from the host.
        for path in (root / "programs").iterdir():
            for line in output_of(["ldd", path]).splitlines():
                host = "=> /" in line and str(root) not in line
                known = line.split()[0].startswith(("libc.so", "libm.so", "libdl.", "librt.", "libpthread.", "libresolv.", "libcu"))
                assert known or not host, f"{path.name} takes {line.strip()}"
        # The command finds its siblings, and the benchmarks their data.
        bench = output_of([root / "bin" / "berth", "bench", "engine", "--load-format", "random", "--loads", "A:4/3,B:3x8/4",
                           "--repeats", "1", ROOT / "tests" / "golden" / "models" / "tiny" / "llama"], cwd=root)
        assert "B 3 x 8/4" in bench, bench
    print("the bundle runs")


if __name__ == "__main__":
    main(sys.argv[1])
