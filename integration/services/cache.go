package services

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// MissingError says that this machine lacks a tool that fetches or runs a service.
type MissingError struct{ Tool, For string }

func (e *MissingError) Error() string {
	return fmt.Sprintf("%s is not installed, which %s needs", e.Tool, e.For)
}

// MaySkip reports whether err says that this machine lacks a tool, and a test that needs it may be skipped: with
// DECKLE_REQUIRE_SERVICES=1 none may. ErrNotAsked always may.
func MaySkip(err error) bool {
	if errors.Is(err, ErrNotAsked) {
		return true
	}
	_, missing := errors.AsType[*MissingError](err)
	return missing && os.Getenv("DECKLE_REQUIRE_SERVICES") != "1"
}

// Cache is the folder that holds what was fetched.
type Cache struct {
	Dir string
	Out io.Writer // progress, one line per fetch
}

// OpenCache opens the cache folder.
func OpenCache(out io.Writer) (*Cache, error) {
	dir := os.Getenv("DECKLE_CACHE")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("services: no cache folder, set DECKLE_CACHE: %w", err)
		}
		dir = filepath.Join(base, "deckle", "services")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	return &Cache{Dir: dir, Out: out}, nil
}

// fetch fills the folder name of the cache by calling f, once: a stamp file says that the folder is complete. Another
// process that fetches the same waits.
func (c *Cache) fetch(name string, needs []string, f func(dir string) error) (string, error) {
	dir := filepath.Join(c.Dir, name)
	stamp := filepath.Join(dir, "fetched")
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", fmt.Errorf("services: %w", err)
	}
	defer func() { _ = lock.Close() }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("services: locking %s: %w", name, err)
	}
	if _, err := os.Stat(stamp); err == nil {
		return dir, nil
	}
	for _, tool := range needs {
		if _, err := exec.LookPath(tool); err != nil {
			return "", &MissingError{Tool: tool, For: name}
		}
	}
	start := time.Now()
	_, _ = fmt.Fprintf(c.Out, "fetching %s …\n", name)
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return "", fmt.Errorf("services: %w", err)
	}
	if err := f(dir); err != nil {
		return "", fmt.Errorf("services: fetching %s: %w", name, err)
	}
	if err := os.WriteFile(stamp, nil, 0o644); err != nil {
		return "", fmt.Errorf("services: %w", err)
	}
	_, _ = fmt.Fprintf(c.Out, "fetched %s in %s\n", name, time.Since(start).Round(time.Second))
	return dir, nil
}

// command runs a tool in dir and returns what it printed. An error contains the end of it.
func command(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		text := out.String()
		return text, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, text[max(0, len(text)-2000):])
	}
	return out.String(), nil
}

// The versions of what is fetched.
const (
	kafkaVersion   = "3.9.1"
	minioVersion   = "v0.0.0-20260212201848-7aac2a2c5b7c"
	versityVersion = "v1.8.0"
	chdbVersion    = "26.5.3"
	chdbPackage    = "@chdb/lib-linux-x64-gnu"
	pythonReaders  = "deltalake==1.6.6 pyarrow==26.0.1 duckdb==1.5.5 duckdb-extension-delta==1.5.5 " +
		"clickhouse-driver==0.2.11 polars==2.1.0"
	librdkafkaVersion = "2.16.1" // of its Python binding, which has it built in
)

const kafkaPOM = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>deckle.tests</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>` + kafkaVersion + `</version>
    </dependency>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>` + kafkaVersion + `</version>
    </dependency>
  </dependencies>
</project>
`

// FetchKafka returns the folder of Kafka's jars.
func (c *Cache) FetchKafka(ctx context.Context) (libs string, err error) {
	dir, err := c.fetch("kafka-"+kafkaVersion, []string{"java", "mvn"}, func(dir string) error {
		if err := os.WriteFile(filepath.Join(dir, "pom.xml"), []byte(kafkaPOM), 0o644); err != nil {
			return err
		}
		_, err := command(ctx, dir, nil, "mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=libs")
		return err
	})
	return filepath.Join(dir, "libs"), err
}

// FetchMinIO returns the path of the MinIO server.
func (c *Cache) FetchMinIO(ctx context.Context) (binary string, err error) {
	dir, err := c.fetch("minio-"+minioVersion, []string{"go"}, func(dir string) error {
		env := []string{"GOBIN=" + dir, "GOFLAGS=-mod=mod", "GOWORK=off"}
		_, err := command(ctx, dir, env, "go", "install", "github.com/minio/minio@"+minioVersion)
		return err
	})
	return filepath.Join(dir, "minio"), err
}

// FetchVersity returns the path of the versitygw server.
func (c *Cache) FetchVersity(ctx context.Context) (binary string, err error) {
	dir, err := c.fetch("versitygw-"+versityVersion, []string{"go"}, func(dir string) error {
		env := []string{"GOBIN=" + dir, "GOFLAGS=-mod=mod", "GOWORK=off"}
		_, err := command(ctx, dir, env, "go", "install",
			"github.com/versity/versitygw/cmd/versitygw@"+versityVersion)
		return err
	})
	return filepath.Join(dir, "versitygw"), err
}

// FetchClickHouse returns the path of the engine, libchdb.so.
func (c *Cache) FetchClickHouse(ctx context.Context) (lib string, err error) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return "", &MissingError{Tool: "linux/amd64", For: "libchdb"}
	}
	dir, err := c.fetch("chdb-"+chdbVersion, []string{"npm", "tar"}, func(dir string) error {
		out, err := command(ctx, dir, nil, "npm", "pack", "--silent", chdbPackage+"@"+chdbVersion)
		if err != nil {
			return err
		}
		lines := strings.Fields(out)
		tgz := lines[len(lines)-1]
		if _, err := command(ctx, dir, nil, "tar", "xzf", tgz); err != nil {
			return err
		}
		return os.Remove(filepath.Join(dir, tgz))
	})
	return filepath.Join(dir, "package", "libchdb.so"), err
}

// BuildFront builds the native-protocol front of the engine from the tree at root.
func (c *Cache) BuildFront(ctx context.Context, root string) (binary string, err error) {
	for _, tool := range []string{"go", "cc"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "", &MissingError{Tool: tool, For: "chfront"}
		}
	}
	binary = filepath.Join(c.Dir, "chfront")
	_, err = command(ctx, root, []string{"CGO_ENABLED=1"}, "go", "build", "-o", binary, "./integration/chfront")
	return binary, err
}

// ErrNoHistory says that a checkout does not have the history that something is built from: it has no .git, or is a
// shallow clone whose origin does not give the commit.
var ErrNoHistory = errors.New("the checkout does not have the history (git fetch --unshallow)")

// BuildCommit builds the binary of a commit of the repository at root, once, from an archive of it in the cache folder.
// A clone whose history does not go back so far asks its origin for that commit; if it cannot have it, the error wraps
// ErrNoHistory.
func (c *Cache) BuildCommit(ctx context.Context, root, commit string) (binary string, err error) {
	if _, err := command(ctx, root, nil, "git", "cat-file", "-e", commit+"^{commit}"); err != nil {
		if _, err := command(ctx, root, nil, "git", "fetch", "--quiet", "--depth=1", "origin", commit); err != nil {
			return "", fmt.Errorf("%w: commit %s", ErrNoHistory, commit[:7])
		}
	}
	dir, err := c.fetch("deckle-"+commit[:12], []string{"git", "tar", "go"}, func(dir string) error {
		archive, source := filepath.Join(dir, "source.tar"), filepath.Join(dir, "source")
		if err := os.Mkdir(source, 0o755); err != nil {
			return err
		}
		if _, err := command(ctx, root, nil, "git", "archive", "-o", archive, commit); err != nil {
			return err
		}
		if _, err := command(ctx, source, nil, "tar", "xf", archive); err != nil {
			return err
		}
		env := []string{"GOWORK=off", "GOFLAGS=-mod=mod -trimpath -buildvcs=false"}
		to := filepath.Join(dir, "deckle")
		if _, err := command(ctx, source, env, "go", "build", "-o", to, "./cmd/deckle"); err != nil {
			return err
		}
		return errors.Join(os.Remove(archive), os.RemoveAll(source))
	})
	return filepath.Join(dir, "deckle"), err
}

// Folder makes an empty folder for a run and returns its absolute path. If path is "", it is a temporary folder whose
// name begins with prefix; otherwise it is the folder path, which is emptied.
func Folder(path, prefix string) (string, error) {
	if path == "" {
		dir, err := os.MkdirTemp("", prefix)
		if err != nil {
			return "", err
		}
		return filepath.Abs(dir)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return path, errors.Join(os.RemoveAll(path), os.MkdirAll(path, 0o755))
}

// Fetched says where the services are.
type Fetched struct {
	KafkaLibs  string // the folder of the jars
	MinIO      string // binary
	ClickHouse string // libchdb.so
	Front      string // binary
}

// FetchServices fetches Kafka, MinIO and the ClickHouse engine, and builds the engine's front from the tree at root.
func (c *Cache) FetchServices(ctx context.Context, root string) (f Fetched, err error) {
	if f.KafkaLibs, err = c.FetchKafka(ctx); err != nil {
		return f, err
	}
	if f.MinIO, err = c.FetchMinIO(ctx); err != nil {
		return f, err
	}
	if f.ClickHouse, err = c.FetchClickHouse(ctx); err != nil {
		return f, err
	}
	f.Front, err = c.BuildFront(ctx, root)
	return f, err
}

// FetchPython returns the path of a Python interpreter that has deltalake and duckdb.
func (c *Cache) FetchPython(ctx context.Context) (python string, err error) {
	dir, err := c.fetch("python-readers-3", []string{"python3"}, func(dir string) error {
		if _, err := command(ctx, dir, nil, "python3", "-m", "venv", dir); err != nil {
			return err
		}
		args := append([]string{"install", "-q", "--disable-pip-version-check"}, strings.Fields(pythonReaders)...)
		_, err := command(ctx, dir, nil, filepath.Join(dir, "bin", "pip"), args...)
		return err
	})
	return filepath.Join(dir, "bin", "python"), err
}
