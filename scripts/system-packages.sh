#!/bin/sh
# Make sure that the system libraries a napari window needs are there (Debian, Ubuntu).
set -eu

packages="xvfb xauth libglib2.0-0 libdbus-1-3 libfontconfig1 libxkbcommon-x11-0
libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-render-util0
libxcb-xinerama0 libxcb-shape0 libxcb-xkb1"

if ! command -v dpkg-query >/dev/null; then
    echo "Not a Debian-like system: napari needs OpenGL, XCB libraries and, without a" \
         "display, Xvfb; please install them with your package manager." >&2
    exit 0
fi

missing=""
for package in $packages; do
    state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

install="apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" = 0 ]; then
    apt-get update -q && DEBIAN_FRONTEND=noninteractive $install
elif sudo -n true 2>/dev/null; then
    sudo apt-get update -q && sudo DEBIAN_FRONTEND=noninteractive $install
else
    echo "System packages are missing. Please run, then try again:" >&2
    echo "    sudo $install" >&2
    exit 1
fi
