package services

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The versions of what a Spark job needs. hadoop-aws must fit the Hadoop that pyspark contains, and delta-spark the
// minor version of Spark. pyarrow reads the Arrow that pyspark hands to Python.
const (
	sparkVersion      = "3.5.7"
	sparkDeltaVersion = "3.3.2"
	sparkHadoop       = "3.3.4"
	sparkPython       = "pyspark==" + sparkVersion + " clickhouse-driver==0.2.11 lz4==4.4.5 " +
		"clickhouse-cityhash==1.0.2.5 " +
		"pyarrow==21.0.0 numpy==2.2.6 pandas==2.3.3"
)

// The jars that pyspark already has are left out.
const sparkPOM = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>deckle.tests</groupId><artifactId>spark</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.spark</groupId><artifactId>spark-sql-kafka-0-10_2.12</artifactId>
      <version>` + sparkVersion + `</version>
      <exclusions>
        <exclusion><groupId>org.apache.hadoop</groupId><artifactId>*</artifactId></exclusion>
        <exclusion><groupId>org.scala-lang</groupId><artifactId>*</artifactId></exclusion>
        <exclusion><groupId>org.lz4</groupId><artifactId>*</artifactId></exclusion>
        <exclusion><groupId>org.xerial.snappy</groupId><artifactId>*</artifactId></exclusion>
        <exclusion><groupId>org.slf4j</groupId><artifactId>*</artifactId></exclusion>
        <exclusion><groupId>com.github.luben</groupId><artifactId>*</artifactId></exclusion>
      </exclusions>
    </dependency>
    <dependency>
      <groupId>io.delta</groupId><artifactId>delta-spark_2.12</artifactId><version>` + sparkDeltaVersion + `</version>
      <exclusions><exclusion><groupId>org.scala-lang</groupId><artifactId>*</artifactId></exclusion>
        <exclusion><groupId>org.antlr</groupId><artifactId>*</artifactId></exclusion></exclusions>
    </dependency>
    <dependency>
      <groupId>org.apache.hadoop</groupId><artifactId>hadoop-aws</artifactId><version>` + sparkHadoop + `</version>
    </dependency>
  </dependencies>
</project>
`

// Spark 4 only reads Delta tables here.
const (
	spark4Version      = "4.0.1"
	spark4DeltaVersion = "4.0.1"
)

const spark4POM = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>deckle.tests</groupId><artifactId>spark4</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>io.delta</groupId><artifactId>delta-spark_2.13</artifactId><version>` + spark4DeltaVersion + `</version>
      <exclusions><exclusion><groupId>org.scala-lang</groupId><artifactId>*</artifactId></exclusion>
        <exclusion><groupId>org.antlr</groupId><artifactId>*</artifactId></exclusion></exclusions>
    </dependency>
  </dependencies>
</project>
`

// ErrNotAsked says that a test is not run unless it is asked for.
var ErrNotAsked = errors.New("services: DECKLE_TEST_SPARK is not 1")

// Spark is what a pyspark job runs with.
type Spark struct {
	Version string
	Python  string // an interpreter with pyspark, clickhouse-driver, pyarrow, numpy and pandas
	Jars    string // the folder of the jars for Kafka, Delta and S3 that pyspark does not have
}

// TestSpark is FetchSpark for a test, which takes minutes and a GB: ErrNotAsked unless DECKLE_TEST_SPARK=1.
// DECKLE_TEST_SPARK_FOLDER names a folder with another Spark (jars, python/bin/python) than the one that is fetched.
func (c *Cache) TestSpark(ctx context.Context) (*Spark, error) {
	if os.Getenv("DECKLE_TEST_SPARK") != "1" {
		return nil, ErrNotAsked
	}
	if dir := os.Getenv("DECKLE_TEST_SPARK_FOLDER"); dir != "" {
		return sparkIn(dir, "in "+dir), nil
	}
	return c.FetchSpark(ctx)
}

// TestSparks is TestSpark with Spark 4, too.
func (c *Cache) TestSparks(ctx context.Context) ([]*Spark, error) {
	three, err := c.TestSpark(ctx)
	if err != nil {
		return nil, err
	}
	four, err := c.FetchSpark4(ctx)
	return []*Spark{three, four}, err
}

// Command is a Python script that runs with Spark, in a folder. Delta's scripts are given Jars.
func (s *Spark) Command(ctx context.Context, dir, script string, args ...string) (*exec.Cmd, error) {
	script, err := filepath.Abs(script)
	if err != nil {
		return nil, fmt.Errorf("services: %w", err)
	}
	cmd := exec.CommandContext(ctx, s.Python, append([]string{script}, args...)...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), SparkEnv...)
	return cmd, nil
}

// SparkEnv is what a process with Spark has in its environment.
var SparkEnv = []string{"SPARK_LOCAL_IP=127.0.0.1", "TZ=UTC"}

// FetchSpark returns a Python interpreter with pyspark and the jars of its connectors.
func (c *Cache) FetchSpark(ctx context.Context) (*Spark, error) {
	return c.fetchSpark(ctx, sparkVersion, sparkPOM, sparkPython)
}

// FetchSpark4 returns a Python interpreter with pyspark of Spark 4 and the jars of Delta.
func (c *Cache) FetchSpark4(ctx context.Context) (*Spark, error) {
	return c.fetchSpark(ctx, spark4Version, spark4POM, "pyspark=="+spark4Version)
}

func (c *Cache) fetchSpark(ctx context.Context, version, pom, packages string) (*Spark, error) {
	dir, err := c.fetch("spark-"+version, []string{"java", "mvn", "python3"}, func(dir string) error {
		if err := os.WriteFile(filepath.Join(dir, "pom.xml"), []byte(pom), 0o644); err != nil {
			return err
		}
		_, err := command(ctx, dir, nil, "mvn", "-q", "-B", "dependency:copy-dependencies",
			"-DincludeScope=runtime", "-DoutputDirectory=jars")
		if err != nil {
			return err
		}
		venv := filepath.Join(dir, "python")
		if _, err := command(ctx, dir, nil, "python3", "-m", "venv", venv); err != nil {
			return err
		}
		args := append([]string{"install", "-q", "--disable-pip-version-check"}, strings.Fields(packages)...)
		_, err = command(ctx, dir, nil, filepath.Join(venv, "bin", "pip"), args...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return sparkIn(dir, version), nil
}

func sparkIn(dir, version string) *Spark {
	return &Spark{Version: version, Python: filepath.Join(dir, "python", "bin", "python"),
		Jars: filepath.Join(dir, "jars")}
}
