package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
)

// profileSeconds is how long a CPU profile takes; it begins with the window.
const profileSeconds = 10

// profile writes a CPU profile and a heap profile of every node; it returns the errors of those that it could not
// write.
func (c *cluster) profile(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	errs := make(chan error)
	for _, n := range c.Nodes {
		go func() {
			name := filepath.Join(dir, c.v.name+"-"+n.Name)
			errs <- errors.Join(
				download(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", n.Debug, profileSeconds),
					name+".cpu.pprof"),
				download(ctx, "http://"+n.Debug+"/debug/pprof/allocs", name+".heap.pprof"))
		}()
	}
	var err error
	for range c.Nodes {
		err = errors.Join(err, <-errs)
	}
	return err
}

func download(ctx context.Context, url, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %d", url, resp.StatusCode)
	}
	return os.WriteFile(path, body, 0o644)
}
