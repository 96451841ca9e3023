package services

import "syscall"

// childAttributes lets the child die with its parent, unless it is detached, and keeps a terminal's Ctrl-C from it.
func childAttributes(detached bool) *syscall.SysProcAttr {
	if detached {
		return &syscall.SysProcAttr{Setsid: true}
	}
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
