// Command vuln runs govulncheck over modules, each in its folder: which known vulnerabilities does the code reach?
// Where no database of them can be had it fails, because nothing was looked at; with -skip it says so and succeeds,
// so that a CI without a network is not held up.
//
// The database is VULNDB if that is set (a folder, a zip file of one, or an address), else GOVULNDB, else Go's. One
// that VULNDB names must be there, with -skip too.
package main

import (
	"archive/zip"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// goDatabase is where govulncheck looks by itself.
const goDatabase = "https://vuln.go.dev"

// patience bounds the question whether there is a database.
const patience = 20 * time.Second

func main() {
	tool := flag.String("tool", "", "govulncheck; installed there if it is missing")
	version := flag.String("version", "", "the version to install")
	skip := flag.Bool("skip", false, "succeed, with a line that says so, if no database can be reached")
	flag.Parse()
	if *tool == "" || *version == "" || flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "vuln: give -tool, -version and the folders of modules")
		os.Exit(2)
	}
	if err := run(os.Stdout, *tool, *version, *skip, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "vuln:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, tool, version string, skip bool, modules []string) error {
	named := os.Getenv("VULNDB")
	db := named
	if db == "" {
		db = cmp.Or(os.Getenv("GOVULNDB"), goDatabase)
	}
	tmp, err := os.MkdirTemp("", "vulndb")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	db, err = reach(db, tmp)
	if err != nil {
		err = fmt.Errorf("nothing was looked at, no database can be reached: %w (VULNDB names a folder or a zip file "+
			"of one)", err)
		if skip && named == "" {
			fmt.Fprintln(w, "vuln: skipped:", err)
			return nil
		}
	}
	if err == nil {
		err = install(tool, version)
	}
	if err != nil {
		return err
	}
	var faults []error
	for _, dir := range modules {
		cmd := exec.Command(tool, "-db", db, "./...")
		cmd.Dir, cmd.Stdout, cmd.Stderr = dir, w, os.Stderr
		cmd.Env = append(os.Environ(), "GOWORK=off") // each module with the versions that are its own
		if err := cmd.Run(); err != nil {
			faults = append(faults, fmt.Errorf("govulncheck in %s: %w", dir, err))
		}
	}
	return errors.Join(faults...)
}

// reach returns the address of a database that answers. A zip file is unpacked into tmp.
func reach(db, tmp string) (string, error) {
	if u, err := url.Parse(db); err == nil && (u.Scheme == "http" || u.Scheme == "https") {
		return db, ask(strings.TrimSuffix(db, "/") + "/index/db.json")
	}
	path, err := filepath.Abs(strings.TrimPrefix(db, "file://"))
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		if err := unpack(path, tmp); err != nil {
			return "", fmt.Errorf("%s: %w", path, err)
		}
		path = tmp
	}
	if _, err := os.Stat(filepath.Join(path, "index", "db.json")); err != nil {
		return "", fmt.Errorf("no database: %w", err)
	}
	return "file://" + filepath.ToSlash(path), nil
}

func ask(address string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", address, answer.Status)
	}
	return nil
}

// unpack unpacks a zip file; it refuses names that lead out of dir.
func unpack(file, dir string) error {
	z, err := zip.OpenReader(file)
	if err != nil {
		return err
	}
	defer func() { _ = z.Close() }()
	return os.CopyFS(dir, z)
}

// install makes the tool of a version, unless it is there.
func install(tool, version string) error {
	if _, err := os.Stat(tool); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	dir, err := os.MkdirTemp("", "govulncheck")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	cmd := exec.Command("go", "install", "golang.org/x/vuln/cmd/govulncheck@"+version)
	cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOWORK=off", "GOFLAGS=-mod=mod")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("installing govulncheck %s: %w", version, err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "govulncheck"))
	if err == nil {
		err = os.MkdirAll(filepath.Dir(tool), 0o755)
	}
	if err == nil {
		err = os.WriteFile(tool+".new", text, 0o755)
	}
	if err != nil {
		return err
	}
	return os.Rename(tool+".new", tool)
}
