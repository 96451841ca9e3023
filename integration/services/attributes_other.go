//go:build !linux

package services

import "syscall"

func childAttributes(detached bool) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Setsid: detached}
}
