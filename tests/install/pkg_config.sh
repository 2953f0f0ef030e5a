#!/bin/sh
# Builds and runs a source with pkg-config's flags:
#   pkg_config.sh <folder of loracle.pc> <source> <output> <compiler> [flags...]
set -eu
export PKG_CONFIG_PATH="$1"
source=$2
output=$3
shift 3
# shellcheck disable=SC2046  # one word a flag
"$@" "$source" -o "$output" $(pkg-config --cflags --libs 'loracle >= 0.1')
"$output"
