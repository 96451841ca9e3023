#!/bin/sh
# Makes the user, gives it the folder of the configuration, and has systemd read the unit. It starts nothing: a node needs
# a configuration first, and one that runs goes on with the binary that it has until it is restarted.
set -e
if command -v systemd-sysusers >/dev/null 2>&1; then
	systemd-sysusers deckle.conf
fi
if getent group deckle >/dev/null 2>&1; then
	chgrp deckle /etc/deckle
fi
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
