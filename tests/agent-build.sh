#!/bin/sh
# Builds the agent that is shipped: one file for glibc 2.17 and later (CentOS 7.9, Ubuntu 22.04).
# Writes tests/.cache/rehull-agent. The linker is zig's, from PyPI, in a venv of its own.
set -eu
cd "$(dirname "$0")/.."
venv=tests/.cache/venv-zig
if ! [ -x "$venv/bin/cargo-zigbuild" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet ziglang==0.17.0 cargo-zigbuild==0.24.0
fi
PATH="$PWD/$venv/bin:$PATH"
cargo zigbuild --package rehull-agent --bin rehull-agent --profile agent --locked \
    --target x86_64-unknown-linux-gnu.2.17
target=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
# Replaced in one step: a test may be copying the old one.
cp "$target/x86_64-unknown-linux-gnu/agent/rehull-agent" tests/.cache/rehull-agent.new
mv tests/.cache/rehull-agent.new tests/.cache/rehull-agent
