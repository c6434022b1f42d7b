# roofline.gp    our passes under the machine's roofs; report.py gives out, roofs, dots, peak, isa and roofline.tsv (roofs, then dots)
set terminal svg size 900,560 font 'Helvetica,13' background '#ffffff'
set output out
load ARG0[:strstrt(ARG0, 'roofline.gp')-1].'style.gp'
set title sprintf('One core, %s: peak %.0f GFLOP/s; each dot a point of the grid', isa, peak)
set logscale xy
set xlabel 'FLOP for each byte of weights, inputs and outputs, moved once a pass'
set ylabel 'GFLOP/s'
set xrange [0.25:1024]
set yrange [peak / 40:peak * 1.5]
set xtics (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
set key bottom right maxrows roofs + dots
plot for [i=0:roofs-1] 'roofline.tsv' index i using 1:2 with lines lw 1.3 dt i+1 lc rgb '#777777', \
     for [i=0:dots-1] 'roofline.tsv' index roofs+i using 1:2 with points lt i+1 ps 0.8
