#!/bin/sh
# Configuration, log, state and user stay: they are not the package's to remove.
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
