package services

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Running is what `make up` stores about a process, so that `make down` ends exactly that process: the process id alone
// may belong to another program by then.
type Running struct {
	Name  string `json:"name"`
	PID   int    `json:"pid"`
	Start string `json:"start"` // from the kernel: when the process started
}

// Remember returns what identifies a running process.
func Remember(p *Process) (Running, error) {
	pid := p.PID()
	start, err := startTime(pid)
	return Running{Name: p.Name, PID: pid, Start: start}, err
}

// WriteRunning stores the list in the order in which the processes were started.
func WriteRunning(path string, rs []Running) error {
	b, err := json.MarshalIndent(rs, "", "  ")
	if err != nil {
		return fmt.Errorf("services: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("services: %w", err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		return fmt.Errorf("services: %w", err)
	}
	return nil
}

// ReadRunning reads the list. It is empty if there is none.
func ReadRunning(path string) (rs []Running, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	if err := json.Unmarshal(b, &rs); err != nil {
		return nil, fmt.Errorf("services: %s: %w", path, err)
	}
	return rs, nil
}

// End ends the process if it is still the one that was started: with SIGTERM, and after timeout with SIGKILL. It says
// whether the process was still running.
func (r Running) End(timeout time.Duration) (ran bool, err error) {
	if !r.alive() {
		return false, nil
	}
	if err := syscall.Kill(r.PID, syscall.SIGTERM); err != nil {
		return true, fmt.Errorf("services: ending %s: %w", r.Name, err)
	}
	for end := time.Now().Add(timeout); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if !r.alive() {
			return true, nil
		}
	}
	if err := syscall.Kill(r.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return true, fmt.Errorf("services: killing %s: %w", r.Name, err)
	}
	return true, nil
}

func (r Running) alive() bool {
	start, err := startTime(r.PID)
	return err == nil && start == r.Start
}

// startTime is field 22 of /proc/<pid>/stat: the start of the process in clock ticks since boot.
func startTime(pid int) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", fmt.Errorf("services: %w", err)
	}
	s := string(b)
	after := strings.Fields(s[strings.LastIndexByte(s, ')')+1:]) // the name may contain anything; the state is field 3
	if len(after) < 20 || after[0] == "Z" {
		return "", fmt.Errorf("services: process %d has ended", pid)
	}
	return after[19], nil
}
