import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/** A pool of threads, a shared map, exceptions that come from faults, a child process. */
public class Threads {
    static long work(ConcurrentHashMap<Integer, Integer> map, int seed) {
        long sum = 0;
        for (int i = 0; i < 100_000; i++) {
            sum = sum * 31 + (i ^ seed);
            map.merge(i % 97, 1, Integer::sum);
        }
        return sum;
    }

    public static void main(String[] words) throws Exception {
        var map = new ConcurrentHashMap<Integer, Integer>();
        ExecutorService pool = Executors.newFixedThreadPool(8);
        List<Future<Long>> results = new ArrayList<>();
        for (int i = 0; i < 24; i++) {
            final int seed = i;
            results.add(pool.submit((Callable<Long>) () -> work(map, seed)));
        }
        long total = 0;
        for (var result : results) {
            total ^= result.get();
        }
        pool.shutdown();
        System.out.println(total + " " + map.values().stream().mapToInt(x -> x).sum());
        for (int i = 0; i < 3; i++) {
            try {
                String nothing = i == 1 ? null : "ab";
                System.out.println(nothing.length() / (i - 2));
            } catch (NullPointerException | ArithmeticException e) {
                System.out.println(e.getClass().getSimpleName());
            }
        }
        var child = new ProcessBuilder("sh", "-c", "cat; exit 5").start();
        child.getOutputStream().write("to the child\n".getBytes());
        child.getOutputStream().close();
        System.out.print(new String(child.getInputStream().readAllBytes()));
        System.out.println(child.waitFor());
        System.gc();
        System.exit(4);
    }
}
