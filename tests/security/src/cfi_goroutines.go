// Goroutines: ended ones return behind a nop of goexit, busy ones are preempted by signals whose handler pushes the
// interrupted place, and a fault becomes a panic that is recovered from.
package main

import (
	"fmt"
	"runtime"
	"sync"
	"time"
)

func spin(n int) int {
	s := 0
	for i := 0; i < n; i++ {
		s += i ^ n
	}
	return s
}

func main() {
	runtime.GOMAXPROCS(2)
	var wait sync.WaitGroup
	var lock sync.Mutex
	total := 0
	for g := 0; g < 100; g++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			x := spin(2000000 + g)
			lock.Lock()
			total += x & 1
			lock.Unlock()
		}()
	}
	collected := make(chan bool)
	go func() {
		for i := 0; i < 30; i++ {
			runtime.GC()
			time.Sleep(time.Millisecond)
		}
		collected <- true
	}()
	wait.Wait()
	fmt.Println("collected", <-collected)
	func() {
		defer func() { fmt.Println("recovered", recover() != nil) }()
		var nothing *int
		*nothing = 1
	}()
	fmt.Println("sum", total >= 0)
}
