// Goroutines, channels, maps, garbage, a panic that is recovered, and a child process.
package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sort"
	"strings"
	"sync"
	"time"
)

func recovered() (text string) {
	defer func() { text = fmt.Sprint(recover()) }()
	var p *int
	*p = 1
	return
}

func main() {
	var wait sync.WaitGroup
	results := make(chan int, 8)
	for i := 0; i < 8; i++ {
		wait.Add(1)
		go func(n int) {
			defer wait.Done()
			sum := 0
			for j := 0; j < 100000; j++ {
				sum += j * n % 7
			}
			results <- sum
		}(i)
	}
	wait.Wait()
	close(results)
	sums := []int{}
	for r := range results {
		sums = append(sums, r)
	}
	sort.Ints(sums)
	fmt.Println(sums)

	garbage := 0
	for i := 0; i < 2000; i++ {
		garbage += len(strings.Repeat("x", i%1000*10))
	}
	runtime.GC()
	fmt.Println(garbage, recovered())
	fmt.Printf("%x\n", sha256.Sum256([]byte(strings.Join(os.Args[1:], " "))))

	timer := time.After(20 * time.Millisecond)
	<-timer
	command := exec.Command("/bin/sh", "-c", "read line; echo child got $line; exit 3")
	command.Stdin = strings.NewReader("a line\n")
	output, err := command.CombinedOutput()
	fmt.Printf("%s%v\n", output, err)
	// A loop without a call must be preempted.
	done := make(chan bool)
	go func() {
		time.Sleep(5 * time.Millisecond)
		done <- true
	}()
	<-done
	os.Exit(len(os.Args))
}
