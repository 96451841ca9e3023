package main

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/prometheus/procfs"
)

// usage is what a set of processes has used.
type usage struct {
	CPU  time.Duration // user and system, since they began
	Peak int64         // bytes: the sum of each process's greatest resident set
}

// usageOf sums over the processes below the given ones, themselves included.
func usageOf(roots ...int) (usage, error) {
	all, err := procfs.AllProcs()
	if err != nil {
		return usage{}, fmt.Errorf("bench: %w", err)
	}
	stats := map[int]procfs.ProcStat{}
	children := map[int][]int{}
	for _, p := range all {
		s, err := p.Stat()
		if err != nil {
			continue // it has ended meanwhile
		}
		stats[s.PID] = s
		children[s.PPID] = append(children[s.PPID], s.PID)
	}
	var u usage
	var add func(pid int) error
	add = func(pid int) error {
		s, ok := stats[pid]
		if !ok {
			return nil
		}
		// A child that has ended and was waited for counts with its parent.
		u.CPU += time.Duration((s.CPUTime() + float64(s.CUTime+s.CSTime)/userHz) * float64(time.Second))
		p, err := procfs.NewProc(pid)
		if err == nil {
			var st procfs.ProcStatus
			if st, err = p.NewStatus(); err == nil {
				u.Peak += int64(st.VmHWM)
			}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("bench: process %d: %w", pid, err)
		}
		for _, c := range children[pid] {
			if err := add(c); err != nil {
				return err
			}
		}
		return nil
	}
	for _, pid := range roots {
		if _, ok := stats[pid]; !ok {
			return usage{}, fmt.Errorf("bench: process %d does not run", pid)
		}
		if err := add(pid); err != nil {
			return usage{}, err
		}
	}
	return u, nil
}

// userHz is the unit of CPU times in /proc, fixed on Linux.
const userHz = 100
