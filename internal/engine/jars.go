package engine

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// The project file that names what Maven is to fetch.
//
//go:embed kafka_pom.xml
var kafkaPom []byte

// The SHA-256 of every jar, one line each in the form of sha256sum.
//
//go:embed kafka_jars.sha256
var kafkaJars string

func kafkaHash() string {
	sum := sha256.Sum256([]byte(kafkaJars))
	return hex.EncodeToString(sum[:])
}

func fetchJars(ctx context.Context, f *fetching) error {
	pom := filepath.Join(f.partial, "pom.xml")
	if err := os.WriteFile(pom, kafkaPom, 0o644); err != nil {
		return fmt.Errorf("write the project file: %w", err)
	}
	libs := filepath.Join(f.result, "libs")
	err := f.tool(ctx, libs, nil, "mvn", "--batch-mode", "--quiet", "--file", pom,
		"dependency:copy-dependencies", "-DoutputDirectory="+libs)
	if err != nil {
		return err
	}
	f.report("checking", 0, 0)
	return checkJars(libs, kafkaJars)
}

// checkJars compares a folder with the list of its files' hashes: every file must be there, and no other.
func checkJars(dir, list string) error {
	want := map[string]string{}
	for line := range strings.Lines(list) {
		hash, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		want[name] = hash
	}
	have, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list what was fetched: %w", err)
	}
	for _, entry := range have {
		hash, known := want[entry.Name()]
		if !known {
			return fmt.Errorf("%s came along and is not pinned: not used", entry.Name())
		}
		if err := checkHash(filepath.Join(dir, entry.Name()), hash); err != nil {
			return err
		}
		delete(want, entry.Name())
	}
	for name := range want {
		return fmt.Errorf("%s is pinned and did not come", name)
	}
	return nil
}

var javaVersion = regexp.MustCompile(`version "(\d+)`)

// needJava finds a java of version 17 or newer.
func needJava(ctx context.Context) error {
	const hint = "install Java 17 or newer (Debian: `apt install openjdk-17-jre-headless`, macOS: `brew install openjdk@17`)"
	out, err := exec.CommandContext(ctx, "java", "-version").CombinedOutput()
	if err != nil {
		return errors.New(hint)
	}
	found := javaVersion.FindSubmatch(out)
	if found == nil {
		return fmt.Errorf("%s; the java found does not say its version", hint)
	}
	if n, err := strconv.Atoi(string(found[1])); err != nil || n < 17 {
		return fmt.Errorf("%s; the java found is %s", hint, found[1])
	}
	return nil
}

// needMaven finds mvn.
func needMaven(context.Context) error {
	if _, err := exec.LookPath("mvn"); err != nil {
		return errors.New("install Maven (Debian: `apt install maven`, macOS: `brew install maven`)")
	}
	return nil
}
