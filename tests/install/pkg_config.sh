#!/bin/sh
# Builds a source with pkg-config's flags, and runs it:
#   pkg_config.sh <folder of the .pc files> <package> <source> <output> <its argument, or ''> <compiler>
#     [flags...]
set -eu
export PKG_CONFIG_PATH="$1"
package=$2
source=$3
output=$4
argument=$5
shift 5
# shellcheck disable=SC2046  # one word a flag
"$@" "$source" -o "$output" $(pkg-config --cflags --libs "$package >= 0.1")
cd "$(dirname "$output")"
"$output" ${argument:+"$argument"}
