#!/bin/sh
# Stops the node when the package goes for good. An upgrade ("upgrade" of dpkg, 1 of rpm) leaves it running.
set -e
case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl --no-reload disable --now deckle.service
	fi
	;;
esac
