package services

import "syscall"

// childAttributes makes the child die with its parent, unless it is detached, and keeps a terminal's Ctrl-C away from
// it.
func childAttributes(detached bool) *syscall.SysProcAttr {
	if detached {
		return &syscall.SysProcAttr{Setsid: true}
	}
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
