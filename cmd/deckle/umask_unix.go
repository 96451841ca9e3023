//go:build unix

package main

import "syscall"

// ownFilesOnly has every file and folder that the process makes from now on be its user's alone, whoever makes it.
func ownFilesOnly() { syscall.Umask(0o077) }
