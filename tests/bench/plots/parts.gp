# parts.gp    where the time of a training step goes; report.py gives out, columns and parts.tsv (a row a step, a column a part, per cent)
set terminal svg size 900,520 font 'Helvetica,13' background '#ffffff'
set output out
load ARG0[:strstrt(ARG0, 'parts.gp')-1].'style.gp'
set title 'Time by part of a training step, B = 16, T = 32, one thread (H under the bars)'
set style data histograms
set style histogram rowstacked
set style fill solid 0.85 border rgb '#ffffff'
set boxwidth 0.7
set ylabel 'share of the step, %'
set yrange [0:100]
unset grid
set key outside right invert
set xtics rotate by -25
plot for [i=2:columns] 'parts.tsv' using i:xticlabels(1) lt i-1
