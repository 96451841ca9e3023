//go:build !unix

package node

import "deckle/node/status"

func raiseFiles() (limit uint64, ok bool) { return 0, false }

func openFilesNow() (f status.Fill) { return f }
